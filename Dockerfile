FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/ ./cmd/cdc ./cmd/invalidator && mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/cdc /out/invalidator /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/data /data
COPY rules.yaml /etc/walfence/rules.yaml
USER 65532:65532
WORKDIR /data
ENV RULES=/etc/walfence/rules.yaml
ENTRYPOINT ["/usr/local/bin/cdc"]
CMD ["run"]
