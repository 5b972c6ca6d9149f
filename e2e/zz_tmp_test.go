package e2e
import ("testing";"os";"fmt"
"helm.sh/helm/v3/pkg/chart/loader";"helm.sh/helm/v3/pkg/action";"helm.sh/helm/v3/pkg/chartutil")
func TestX(t *testing.T){
 for _,r:=range []string{"r1","r2","r3"}{
 c,err:=loader.Load("/tmp/e2e-out/"+r+"/chart"); if err!=nil{t.Fatal(err)}
 a:=action.NewInstall(&action.Configuration{}); a.DryRun=true;a.ClientOnly=true;a.ReleaseName="wordcab";a.Namespace="wordcab";a.IncludeCRDs=true
 a.KubeVersion=&chartutil.KubeVersion{Version:"v1.34.4",Major:"1",Minor:"34"}
 v,err:=chartutil.ReadValuesFile("/tmp/e2e-out/"+r+"/values.yaml"); if err!=nil{t.Fatal(err)}
 rel,err:=a.Run(c,v); if err!=nil{t.Fatal(r,err)}
 os.WriteFile("/tmp/hx/"+r+".yaml",[]byte(rel.Manifest),0o644); fmt.Println(r,len(rel.Manifest))
 }}
