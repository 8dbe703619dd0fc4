"""The report of a sweep: one HTML file, a heat map in the terminal, the winner as a preset."""
