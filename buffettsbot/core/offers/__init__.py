"""What is on sale, and at what price."""
