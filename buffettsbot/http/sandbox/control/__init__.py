"""What developers tell the sandbox, and what it tells them."""
