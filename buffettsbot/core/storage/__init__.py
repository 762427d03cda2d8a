"""The two databases, their tables, and the small books that every room keeps."""
