"""What a blockchain says of a transaction, and what that is worth. Knows no database."""
