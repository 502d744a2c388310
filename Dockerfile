# `fairlane` in two images, and one for benchmarks and replays:
#   docker build -t fairlane --target fairlane .                  dispatchers, and workers that build in pods
#   docker build -t fairlane-repo2docker --target repo2docker .   workers that run repo2docker themselves
#   docker build -t fairlane-bench --target bench .               `fairlane replay` and `fairlane bench`, with a redis-server
#
# Without BuildKit, Docker builds every stage up to the target, needed or not: the order matters.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package fairlane \
 && cp target/release/fairlane /usr/local/bin/

FROM debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home fairlane

FROM base AS fairlane
COPY --from=build /usr/local/bin/fairlane /usr/local/bin/fairlane
USER fairlane
EXPOSE 8600
ENTRYPOINT ["fairlane"]
CMD ["--help"]

FROM base AS repo2docker
RUN apt-get update \
 && apt-get install -y --no-install-recommends docker.io git mercurial python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/repo2docker/requirements.txt /opt/repo2docker.txt
RUN python3 -m venv /opt/repo2docker \
 && /opt/repo2docker/bin/pip install --no-cache-dir --requirement /opt/repo2docker.txt
# Last, so that another version of the program installs nothing anew.
COPY --from=build /usr/local/bin/fairlane /usr/local/bin/fairlane
ENV PATH=/opt/repo2docker/bin:$PATH
USER fairlane
ENTRYPOINT ["fairlane"]
CMD ["worker"]

FROM build AS build-bench
RUN cargo build --release --locked --package fairlane-bench \
 && cp target/release/fairlane-bench /usr/local/bin/

FROM redis:7.4-bookworm AS bench
COPY --from=build /usr/local/bin/fairlane /usr/local/bin/fairlane
COPY --from=build-bench /usr/local/bin/fairlane-bench /usr/local/bin/fairlane-bench
USER redis
ENTRYPOINT ["fairlane"]
CMD ["replay", "--help"]

# What `docker build .` makes.
FROM fairlane
