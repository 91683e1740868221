"""The daemon: a supervisor with privileges, and workers without, each with its own IKE_SAs."""
