# docker build -t zenopt . && docker run --rm --user "$(id -u)" -v "$PWD:/work" zenopt optimize --study demo
# For KubeRay and --on ray: --build-arg EXTRAS=postgres,train,ray; head and workers then run `ray`, by --entrypoint.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml setup.cfg setup.py README.md LICENSE ./
COPY zenopt zenopt
COPY train train
COPY studies studies
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# Together, so that the resolver takes a pair that fits.
RUN pip install --no-cache-dir torch torchvision
COPY --from=build /wheels /wheels
ARG EXTRAS=postgres,train
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[$EXTRAS]" && rm -r /wheels
RUN useradd --create-home --uid 1000 zenopt && mkdir /work && chown zenopt:zenopt /work
USER zenopt
WORKDIR /work
ENTRYPOINT ["zenopt"]
CMD ["--help"]
