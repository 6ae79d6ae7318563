package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

const schema = `
CREATE TABLE users (id bigint PRIMARY KEY, tenant_id int NOT NULL, name text NOT NULL, email text NOT NULL);
CREATE TABLE tenant_settings (tenant_id int, name text, value text, PRIMARY KEY (tenant_id, name));
CREATE TABLE products (id bigint PRIMARY KEY, tenant_id int NOT NULL, name text NOT NULL);
INSERT INTO users VALUES (1, 7, 'Ada', 'ada@example.com');
INSERT INTO tenant_settings VALUES (7, 'colour', 'red');
INSERT INTO products VALUES (1, 7, 'oak chair'), (2, 7, 'oak table'), (3, 8, 'other chair');`

func TestTheServiceReadsThroughTheCache(t *testing.T) {
	database, server, bus := testkit.NewDatabase(t), testkit.Redis(t), testkit.NATS(t)
	database.Exec(t, schema)
	db, err := pgxpool.New(t.Context(), database.URL)
	require.NoError(t, err)
	defer db.Close()
	client := server.Client(t)
	s, err := newShop(db, client, bus.Conn(t))
	require.NoError(t, err)
	defer s.close()
	h := s.handler()
	get := func(path, etag string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.Header.Set("If-None-Match", etag)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}

	for path, want := range map[string]string{
		"/tenants/7/users/1":          `{"name":"Ada","email":"ada@example.com"}`,
		"/tenants/7/settings":         `{"colour":"red"}`,
		"/tenants/7/products?q=chair": `[{"id":1,"name":"oak chair"}]`,
	} {
		first := get(path, "")
		require.Equal(t, http.StatusOK, first.Code, path)
		require.JSONEq(t, want, first.Body.String())
		require.NotEmpty(t, first.Header().Get("Surrogate-Key"))
		require.Equal(t, http.StatusNotModified, get(path, first.Header().Get("ETag")).Code)
	}
	require.Equal(t, http.StatusNotFound, get("/tenants/8/users/1", "").Code, "another tenant's user")
	require.Equal(t, http.StatusBadRequest, get("/tenants/x/users/1", "").Code)

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/tenants/7/users/1/name?name=Grace", nil))
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Contains(t, get("/tenants/7/users/1", "").Body.String(), "Grace")

	database.Exec(t, "INSERT INTO products VALUES (4, 7, 'ash chair')")
	require.NoError(t, client.Unlink(t.Context(), cache.GenerationKey(cache.Scope("7", "catalog"))).Err(), "what walfence does")
	require.Contains(t, get("/tenants/7/products?q=chair", "").Body.String(), "ash chair")
	require.Contains(t, get("/metrics", "").Body.String(), "walfence_cache_reads_total")
}
