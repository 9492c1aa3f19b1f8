"""What may leave a session: policy, DNS, TLS and HTTP decisions, the proxy, the audit log."""
