"""The bidirectional trajectory model: masks, network, action distribution, losses."""
