"""The HTTP face on the socket."""
