"""Makes metrics of what waits in the kernel for a worker, and of what was lost there."""

from collections.abc import Mapping

from cygnet.net.queues import ReceiveQueue
from cygnet.observe.counters import CounterWriter


def note_receive_queues(counters: CounterWriter, queues: Mapping[str, ReceiveQueue]) -> None:
    """Set the metrics of a worker's sockets to what `receive_queues` says.

    The sockets are as old as the gateway and outlive a worker, and so do their counts.
    """
    for kind, queue in queues.items():
        counters.set(f'receive_queue_octets{{socket="{kind}"}}', queue.waiting_octets)
        counters.set(f'socket_drops_total{{socket="{kind}"}}', queue.drops)
    counters.set("kernel_drops_total", sum(queue.drops for queue in queues.values()))
