"""OpenVINO: the target for CPUs, its sessions, and the kernels that it makes."""
