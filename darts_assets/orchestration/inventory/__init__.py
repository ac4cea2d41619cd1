"""The inventory of thaw slumps as assets."""
