"""The report of a run: what it shows, how it is drawn, the page."""
