"""The streams that people hold on to: exec, attach and port-forward, over WebSockets and over SPDY/3.1.

    spdy, spdy_headers   SPDY/3.1, sans-I/O: bytes in, events out
    numbers              of the channels of exec and attach
    channels             the sub-protocols that number streams inside WebSocket messages, sans-I/O
    carriers             what carries bytes: an upgraded HTTP connection, or the messages of a WebSocket
    server               which protocol a request asks for, and then:
    remotecommand        one exec or attach: a process' standard streams on one side, a client on the other
    outputs              what the process says, on its way
    remotes              that client: over the channels of a WebSocket, over the streams of SPDY
    portforward          many TCP connections into a pod's network namespace over one SPDY connection
    portforward_channels the same over numbered channels, one connection for each port of the query
    presence             whether the client is still there while nothing is read from it
    terminal_size        window sizes out of what a client sends

The API server and the CRI's streaming server use the same code; it knows the runtime's verbs and no Kubernetes object.
"""
