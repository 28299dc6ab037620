"""A server without processes, for random histories: real rows, real decisions; clocks and scripts of our own."""
