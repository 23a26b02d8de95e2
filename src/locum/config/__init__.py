"""service.json: read whole, checked whole, swapped whole."""
