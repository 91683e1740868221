"""The log: the lines of all workers, their forms, and where they go."""
