# docker build -t zenopt . && docker run --rm -v "$PWD:/work" zenopt optimize --study demo
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml setup.cfg setup.py README.md LICENSE ./
COPY zenopt zenopt
COPY train train
COPY studies studies
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
RUN pip install --no-cache-dir torch torchvision
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[postgres,train]" && rm -r /wheels
RUN useradd --create-home --uid 1000 zenopt && mkdir /work && chown zenopt:zenopt /work
USER zenopt
WORKDIR /work
ENTRYPOINT ["zenopt"]
CMD ["--help"]
