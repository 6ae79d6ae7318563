package shop

import (
	"fmt"
	"math/rand/v2"

	"github.com/walfence/walfence/integration/check"
)

// The keys of rules.yaml.
func profileKey(tenant int, user int64) string {
	return fmt.Sprintf("tenant:%d:user:%d:profile", tenant, user)
}

func productKey(tenant int, version string, product int64) string {
	return fmt.Sprintf("tenant:%d:%s:product:%d", tenant, version, product)
}

func orderKey(tenant int, order int64) string {
	return fmt.Sprintf("tenant:%d:order:%d", tenant, order)
}

// row picks an id and the tenant that its row belongs to, or sometimes belongs to.
func (s *Shop) row(rng *rand.Rand, each int) (tenant int, id int64) {
	id = s.pick(rng, each, s.Tenants)
	tenant = s.home(id)
	if rng.IntN(4) == 0 {
		tenant = partner(tenant)
	}
	return tenant, id
}

// pick chooses an id, every second time one of a few that everybody wants.
func (s *Shop) pick(rng *rand.Rand, each, tenants int) int64 {
	tenant, n := rng.IntN(tenants), rng.IntN(each)
	if rng.IntN(2) == 0 {
		tenant, n = tenant%8, n%8
	}
	return int64(n*s.Tenants + tenant + 1)
}

// Views are what the shop's pages cache.
func (s *Shop) Views() []check.View {
	return []check.View{
		s.profiles(), s.products("v2"), s.products("v3"), s.categories(), s.orders(), s.items(), s.customers(), settingsView,
	}
}

func (s *Shop) profiles() check.View {
	return check.View{
		Name: "profile",
		All:  "SELECT format('tenant:%s:user:%s:profile', tenant_id, id), ver, name FROM users",
		One:  "SELECT ver, name FROM users WHERE tenant_id = $1 AND id = $2",
		Pick: func(rng *rand.Rand) (string, []any) {
			tenant, id := s.row(rng, s.Users)
			return profileKey(tenant, id), []any{tenant, id}
		},
	}
}

func (s *Shop) products(version string) check.View {
	return check.View{
		Name: "product " + version,
		All:  "SELECT format('tenant:%s:" + version + ":product:%s', tenant_id, id), ver, price || '/' || stock FROM products",
		One:  "SELECT ver, price || '/' || stock FROM products WHERE tenant_id = $1 AND id = $2",
		Pick: func(rng *rand.Rand) (string, []any) {
			tenant, id := s.row(rng, s.Products)
			return productKey(tenant, version, id), []any{tenant, id}
		},
	}
}

func (s *Shop) categories() check.View {
	const list = "string_agg(id || '=' || price, ' ' ORDER BY id)"
	return check.View{
		Name: "category",
		All: "SELECT format('tenant:%s:category:%s:products', tenant_id, coalesce(category, 'none')), 0::bigint, " + list +
			" FROM products GROUP BY tenant_id, category",
		One: "SELECT 0::bigint, " + list + " FROM products WHERE tenant_id = $1 AND category IS NOT DISTINCT FROM $2::text HAVING count(*) > 0",
		Pick: func(rng *rand.Rand) (string, []any) {
			tenant := rng.IntN(s.Tenants) + 1
			if n := rng.IntN(categories); n > 0 {
				category := fmt.Sprint("c", n)
				return fmt.Sprintf("tenant:%d:category:%s:products", tenant, category), []any{tenant, category}
			}
			return fmt.Sprintf("tenant:%d:category:none:products", tenant), []any{tenant, nil}
		},
	}
}

func (s *Shop) orders() check.View {
	return check.View{
		Name: "order",
		All:  "SELECT format('tenant:%s:order:%s', tenant_id, id), ver, customer_id || state FROM orders",
		One:  "SELECT ver, customer_id || state FROM orders WHERE tenant_id = $1 AND id = $2",
		Pick: func(rng *rand.Rand) (string, []any) {
			tenant, id := s.row(rng, s.Orders)
			return orderKey(tenant, id), []any{tenant, id}
		},
	}
}

func (s *Shop) items() check.View {
	const list = "string_agg(line || '=' || quantity, ' ' ORDER BY line)"
	return check.View{
		Name: "items",
		All: "SELECT format('tenant:%s:order:%s:items', tenant_id, order_id), 0::bigint, " + list +
			" FROM order_items GROUP BY tenant_id, order_id",
		One: "SELECT 0::bigint, " + list + " FROM order_items WHERE tenant_id = $1 AND order_id = $2 HAVING count(*) > 0",
		Pick: func(rng *rand.Rand) (string, []any) {
			tenant, id := s.row(rng, s.Orders)
			return orderKey(tenant, id) + ":items", []any{tenant, id}
		},
	}
}

func (s *Shop) customers() check.View {
	const list = "string_agg(id || state, ' ' ORDER BY id)"
	return check.View{
		Name: "customer",
		All: "SELECT format('tenant:%s:customer:%s:orders', tenant_id, customer_id), 0::bigint, " + list +
			" FROM orders GROUP BY tenant_id, customer_id",
		One: "SELECT 0::bigint, " + list + " FROM orders WHERE tenant_id = $1 AND customer_id = $2 HAVING count(*) > 0",
		Pick: func(rng *rand.Rand) (string, []any) {
			tenant, id := s.row(rng, s.Users)
			return fmt.Sprintf("tenant:%d:customer:%d:orders", tenant, id), []any{tenant, id}
		},
	}
}

var settingsView = check.View{
	Name: "settings",
	All:  "SELECT 'settings', 0::bigint, string_agg(name || '=' || value, ' ' ORDER BY name) FROM settings HAVING count(*) > 0",
	One:  "SELECT 0::bigint, string_agg(name || '=' || value, ' ' ORDER BY name) FROM settings HAVING count(*) > 0",
	Pick: func(*rand.Rand) (string, []any) { return "settings", nil },
}
