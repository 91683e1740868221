"""What a process knows of its attempts: of each while it is under way, of all together how many."""

from cygnet.ike.effects import InstallChild


class Attempt:
    """One attempt under way."""

    __slots__ = ("child", "init_done", "intended", "number")

    def __init__(self, number: int, intended: float) -> None:
        self.number = number
        self.intended = intended
        self.init_done = 0.0
        """When IKE_SA_INIT was answered; 0.0 while it isn't."""
        self.child: InstallChild | None = None


class Tally:
    """What can be watched while a fleet runs."""

    __slots__ = ("attempted", "deleted", "established", "failed")

    def __init__(self) -> None:
        self.attempted = 0
        self.established = 0
        self.failed = 0
        self.deleted = 0
