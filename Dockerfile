# The labeler in a container, without the trainer's libraries. All that must be kept is in the volume /data:
#
#   docker build -t rankloop .
#   docker run -d --name rankloop -p 127.0.0.1:7860:7860 -v rankloop-data:/data --stop-timeout 40 rankloop
#   docker exec -i rankloop labeler people add ana --role admin --password-stdin --db /data/rankloop.db <<< "a long password"
#   docker exec rankloop labeler backup --db /data/rankloop.db --out /data/backups --keep 48
#
# /data is a named volume or a folder on a disk of this machine; a network file system is refused (docs/operate.md).
FROM python:3.11-slim

WORKDIR /opt/rankloop
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY preferences preferences
COPY labeler labeler
COPY trainer trainer
RUN pip install --no-cache-dir --constraint constraints.txt . \
    && useradd --system --uid 10001 --home-dir /data rankloop \
    && install -d -o rankloop -m 0700 /data
USER rankloop
WORKDIR /data
VOLUME /data
ENV PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 GRADIO_ANALYTICS_ENABLED=False
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["labeler", "serve", "--db", "/data/rankloop.db", "--host", "0.0.0.0", "--port", "7860"]
