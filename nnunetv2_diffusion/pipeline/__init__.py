"""Stages of commands with logs that resume."""
