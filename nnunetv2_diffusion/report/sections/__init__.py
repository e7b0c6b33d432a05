"""The report's sections: each module turns a `Context` into a `Section` with its tables, figures and variables."""
