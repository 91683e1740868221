"""The control socket's commands: asked of the supervisor, answered by workers."""
