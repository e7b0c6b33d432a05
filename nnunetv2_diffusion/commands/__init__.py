"""One file a subcommand of `spinesegdiff`: `add_arguments(parser)` and `run(args)`, one call into a floor below."""
