"""Review of slumps by people: verdicts, where they are stored, what follows from them, and the server of the map."""
