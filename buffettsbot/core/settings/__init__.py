"""What the owner chose, and how it is written down."""
