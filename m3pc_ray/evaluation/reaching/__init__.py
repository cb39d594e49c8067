"""How well goals were reached: measures of an episode, distance to the data, rows, tables and the record of it all."""
