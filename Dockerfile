# The serving image: the page and the HTTP service of `tfllv serve` on the CPU build of TensorFlow, and nothing else. The
# weights come with the package; once built, it needs no network.
#
#   docker build -t tfllv .
#   docker run --rm -p 5000:5000 tfllv                                                  # all bundled methods
#   docker run --rm -p 5000:5000 -v "$PWD/serving:/models:ro" tfllv --model /models/sgz   # an exported model
#
# `tools/replay_dockerfile.py` carries out its steps where there is no Docker.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# The environment gets no pip of its own: the final image has nothing to install with.
RUN python -m venv --without-pip /opt/tfllv
COPY requirements-serve.txt ./
RUN pip --python /opt/tfllv/bin/python install --no-cache-dir --no-deps --only-binary=:all: -r requirements-serve.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY tfllv tfllv
RUN pip --python /opt/tfllv/bin/python wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/tfllv/bin/python install --no-cache-dir --no-deps --no-index /wheels/tfllv-*.whl

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tfllv
COPY --from=build /opt/tfllv /opt/tfllv
# Keras writes its settings into the home folder; /tmp may be a tmpfs over a read-only root.
ENV PATH=/opt/tfllv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=2
WORKDIR /tmp
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/healthz', timeout=4)"]
ENTRYPOINT ["tfllv", "serve", "--host", "0.0.0.0"]
