"""From a screening table to a data folder: formats, roles of columns, layout, findings."""
