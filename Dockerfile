# Targets: `cpu` (default), without segmentation and training; `gpu`, with torch, also for CPUs; `test`, `gpu` with the
# tests. For example:
#
#   docker build --target gpu --build-arg VERSION=0.1.0 -t darts-assets:0.1.0-gpu .
#   docker run --rm --read-only --tmpfs /tmp:exec -v darts:/work darts-assets:0.1.0-gpu darts-assets demo
#
# BASE may be any Debian-like image with Python 3.11 and `venv`: --build-arg BASE=...

ARG BASE=docker.io/library/python:3.11-slim-bookworm


FROM ${BASE} AS python
# rasterio's wheel uses the expat library of the system; GDAL and gRPC use the certificates; tini is the first process.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libexpat1 tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*


# Requirements as files, so that the long steps below are repeated only when a requirement or a pin changes.
FROM python AS requirements
# Dependencies that need torch; tests/k8s/test_image.py compares the list with the metadata of the packages.
ARG NEEDS_TORCH="pytorch-lightning segmentation-models-pytorch torch torchmetrics torchvision"
COPY pyproject.toml /
RUN python3 -c "import re, sys, tomllib; \
project = tomllib.load(open('/pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
named = lambda line: re.match(r'[\w.-]+', line)[0]; \
lists = {'cpu': [x for x in project['dependencies'] + extras['cluster'] if named(x) not in sys.argv[1:]], \
         'torch': [x for x in project['dependencies'] if named(x) in sys.argv[1:]], 'test': extras['test']}; \
[print(*lines, sep='\n', file=open(f'/{name}.txt', 'w')) for name, lines in lists.items()]" ${NEEDS_TORCH}


FROM python AS cpu-venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CONSTRAINT=/build/constraints.txt PIP_BUILD_CONSTRAINT=/build/constraints.txt
RUN python3 -m venv /opt/venv
COPY constraints.txt /build/
COPY --from=requirements /cpu.txt /build/
RUN /opt/venv/bin/pip install -r /build/cpu.txt


FROM cpu-venv AS gpu-venv
COPY --from=requirements /torch.txt /build/
RUN /opt/venv/bin/pip install -r /build/torch.txt


FROM gpu-venv AS test-venv
COPY --from=requirements /test.txt /build/
RUN /opt/venv/bin/pip install -r /build/test.txt


# The package alone, so that the layer that changes with every commit is small.
FROM cpu-venv AS package
COPY pyproject.toml README.md LICENSE /build/
COPY darts_assets /build/darts_assets
RUN /opt/venv/bin/pip install --no-deps --target /opt/darts /build


FROM python AS runtime
LABEL org.opencontainers.image.title="darts_assets" \
      org.opencontainers.image.description="Thaw slumps from Sentinel-2 and PlanetScope scenes, as a Dagster asset graph" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 darts \
 && useradd --uid 10001 --gid darts --no-create-home --home-dir /tmp --shell /usr/sbin/nologin darts \
 && install --directory --owner darts --group darts /work
# All files belong to root and are readable by everyone. Only /tmp and /work are written to; both can be volumes.
ENV PATH=/opt/darts/bin:/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/darts \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /work
EXPOSE 4000
# Passes signals on, which a first process without handlers would ignore, and reaps orphans. Kubernetes' `args` follow it.
ENTRYPOINT ["tini", "--"]
# For the default command, the code location. Kubernetes uses its own probes.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
CMD ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", "darts_assets"]


FROM runtime AS gpu
# For the NVIDIA container runtime, which adds the driver; torch's wheels contain the CUDA libraries.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-venv /opt/venv /opt/venv
COPY --from=package /opt/darts /opt/darts
# Last, because the revision changes with every commit.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"


# Servers of the tests. Debian's kubectl is too old to render the manifests, so those tests are skipped.
FROM runtime AS test-runtime
USER root
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql-postgis \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 10001:10001


# The tests read files of the repository, so they run on a copy of it, which takes precedence over the installed package.
FROM test-runtime AS test
COPY --from=test-venv /opt/venv /opt/venv
COPY --from=package /opt/darts /opt/darts
# The tests expect commands in the folder of Python.
COPY --from=package /opt/darts/bin /opt/venv/bin
COPY . /src
ENV PYTHONPATH=/src:/opt/darts HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
WORKDIR /src
CMD ["pytest", "-p", "no:cacheprovider", "-n", "3", "-m", "slow or not slow"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"


FROM runtime AS cpu
COPY --from=cpu-venv /opt/venv /opt/venv
COPY --from=package /opt/darts /opt/darts
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" org.opencontainers.image.revision="${REVISION}"
