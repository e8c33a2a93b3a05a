"""The connection over which the kernel sends a file."""

import socket

import pytest

from api.zero_copy import _whole_segments


def corked(connection: socket.socket) -> bool:
    return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


def test_it_is_corked_while_a_file_is_sent_and_no_longer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        with _whole_segments(connection):
            assert corked(connection)
        assert not corked(connection)
        with pytest.raises(OSError, match="the file has ended"), _whole_segments(connection):
            raise OSError("the file has ended")
        assert not corked(connection)


def test_one_that_isnt_tcp_is_left_alone() -> None:
    left, right = socket.socketpair()
    with left, right, _whole_segments(left):
        left.sendall(b"as ever")
        assert right.recv(7) == b"as ever"
