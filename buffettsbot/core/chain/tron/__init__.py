"""How TRON is asked: its addresses, its two services, and how they answer."""
