"""Steps that resume: commands and functions run one after the other, each with its log and a marker once finished."""
