"""All of the data in a file, and back."""
