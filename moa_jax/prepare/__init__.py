"""From a screening table to a data folder: formats, roles of columns, the layout, what was found."""
