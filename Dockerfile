# syntax=docker/dockerfile:1
# One image for the API, the worker and the migrations; the command decides which.
#
#   docker build -t vgid .                                                              CPU
#   docker build -t vgid --build-arg TORCH_INDEX=https://pypi.org/simple .              NVIDIA (x86-64: CUDA is in torch)
#
# It holds no secret and no model: settings come as VGID_* variables, models as a mounted folder.
# The root file system can be read-only; only /var/lib/vgid and /tmp are written to.

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
WORKDIR /src
RUN python -m venv /opt/vgid
ENV PATH=/opt/vgid/bin:$PATH

# Dependencies first: this layer changes with pyproject.toml alone. Torch has an index of its own, all else is from PyPI.
COPY pyproject.toml ./
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
needed = project['dependencies'] + project['optional-dependencies']['gpu']; \
torch = [line for line in needed if line.startswith('torch')]; \
open('torch.txt', 'w').write('\n'.join(torch)); \
open('rest.txt', 'w').write('\n'.join(line for line in needed if line not in torch))"
# The cache is a mount, so nothing of it stays in the layer.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --index-url "${TORCH_INDEX}" --requirement torch.txt && pip install --requirement rest.txt

# All packages but compare, which is research.
COPY README.md LICENSE ./
COPY terminal terminal
COPY vgid_verify vgid_verify
COPY vgid_core vgid_core
COPY jobs jobs
COPY migrations migrations
COPY api api
COPY worker worker
COPY vgid_client vgid_client
COPY local local
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip pip install --no-deps . && python -m compileall -q /opt/vgid

FROM python:${PYTHON_VERSION}-slim-bookworm
RUN groupadd --gid 10001 vgid \
    && useradd --uid 10001 --gid vgid --no-create-home --home-dir /tmp --shell /usr/sbin/nologin vgid \
    && install --directory --owner vgid --group vgid --mode 0700 /var/lib/vgid /var/lib/vgid/blobs /var/lib/vgid/hub \
       /var/lib/vgid/checkpoints /var/lib/vgid/signing-keys
COPY --from=build /opt/vgid /opt/vgid
ENV PATH=/opt/vgid/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/var/lib/vgid/hub \
    VGID_BLOB_DIR=/var/lib/vgid/blobs \
    VGID_CATALOG=/models/catalog.toml
WORKDIR /var/lib/vgid
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# For the API, the default command; docker-compose.yml gives the worker a check of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "-m", "api.server", "--host", "0.0.0.0", "--port", "8000"]
