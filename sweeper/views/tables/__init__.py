"""Tables of a terminal: columns that fit, digits that tell rows apart."""
