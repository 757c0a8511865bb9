"""How gunicorn serves the shop: one process, few threads, a short good-bye."""

bind = "0.0.0.0:8080"
worker_class = "gthread"
# Loaded before the unit counts as started: who waits for "systemctl restart" meets a shop that answers.
preload_app = True
workers = 1
# A request that hangs on the database holds one thread; the others go on serving.
threads = 8
# A restart is part of every failover: requests in flight get half a second.
graceful_timeout = 1
timeout = 30
wsgi_app = "minimarket.web:create_app()"
worker_tmp_dir = "/dev/shm"
