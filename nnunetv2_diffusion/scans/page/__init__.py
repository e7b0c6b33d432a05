"""The results of many scans to look through: a row a scan in a table, and one web page."""
