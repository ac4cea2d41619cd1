"""An HTTP file server, proxies that inject faults, and a guard against sockets."""
