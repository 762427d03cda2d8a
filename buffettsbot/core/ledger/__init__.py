"""What was paid, and what came of it."""
