"""Who is known, who is in, and until when."""
