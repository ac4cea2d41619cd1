"""Code to prepend to a script, whose process then dies as soon as it opens a socket other than to itself.

Python's audit hooks catch Python code; a kernel filter (seccomp, on Linux) catches libraries such as GDAL and Icechunk.
"""

NO_SOCKETS = """
import ctypes, os, platform, socket, struct, sys
import urllib3  # when it is imported it tries whether it can bind to an IPv6 address of this machine

def end(event, arguments):
    if event == "socket.gethostname":
        return  # asks the kernel
    if event == "socket.__new__" and arguments[1] == socket.AF_UNIX:
        return  # event loops talk to themselves
    if event.startswith("socket."):
        print(event, arguments, file=sys.stderr, flush=True)
        os._exit(99)

sys.addaudithook(end)
call = {"x86_64": 41, "aarch64": 198}.get(platform.machine())
if sys.platform == "linux" and call:
    def step(code, value=0, if_equal=0, otherwise=0):
        return struct.pack("HBBI", code, if_equal, otherwise, value)
    LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
    program = b"".join((  # socket(domain) with a domain other than AF_UNIX kills the process
        step(LOAD, 0), step(EQUAL, call, 0, 3),
        step(LOAD, 16), step(EQUAL, socket.AF_UNIX, 1, 0), step(RETURN, 0x80000000), step(RETURN, 0x7FFF0000),
    ))
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]
    libc, filtered = ctypes.CDLL(None, use_errno=True), Program(6, program)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "no_new_privs"
    assert libc.prctl(22, 2, ctypes.byref(filtered), 0, 0) == 0, "seccomp"
"""
