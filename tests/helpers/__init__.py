"""What the tests share: sample data, tiny projects, and the commands as a user calls them."""
