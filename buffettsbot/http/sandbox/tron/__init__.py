"""A TRON that is emulated: its chain, its payments, and how the services tell them."""
