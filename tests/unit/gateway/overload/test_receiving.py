from cygnet.gateway.overload.receiving import note_receive_queues
from cygnet.net.queues import ReceiveQueue
from cygnet.observe.counters import Counters


def test_each_kind_of_socket_has_its_series_and_workers_are_summed() -> None:
    counters = Counters.create(writers=2)
    for worker in range(2):
        writer = counters.writer(worker)
        for waiting in (700, 0):
            queues = {"ipv4_natt": ReceiveQueue(waiting, 5), "ipv6_esp": ReceiveQueue(40, 2)}
            note_receive_queues(writer, queues)
    values = counters.values()
    assert values['socket_drops_total{socket="ipv4_natt"}'] == 10
    assert values['socket_drops_total{socket="ipv6_esp"}'] == 4
    assert values["kernel_drops_total"] == 14
    assert values['receive_queue_octets{socket="ipv4_natt"}'] == 0
    assert values['receive_queue_octets{socket="ipv6_esp"}'] == 80
    assert values['receive_queue_octets{socket="ipv4_ike"}'] == 0
