"""How a notice is written for other programs, and how it reaches them."""
