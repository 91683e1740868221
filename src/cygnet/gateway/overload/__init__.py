"""Who is served first, who waits, and who is turned away, when more comes than a worker can take."""
