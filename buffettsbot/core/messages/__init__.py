"""What people read. Knows no database and no network."""
