"""How a cell is run over time, and how that is differentiated."""
